"""All that the tokenizer makes of a request before a worker sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.model_card import ModelCard
from gateway.model_checks import check_prompt_length
from gateway.prompt import prompt_token_ids
from gateway.request import GenerationRequest
from gateway.token_table import TokenTable, TokenTables
from octavo.client.services.replicated_tokenizer import ReplicatedTokenizer
from octavo.errors import DeadlineExceededError, invalid_field


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """`echoed_text` is what each output begins with. The table is empty where no bytes of tokens
    are needed but those of generated ones.
    """

    prompt_ids: Sequence[int]
    echoed_text: str
    bad_words: Sequence[Sequence[int]]
    table: TokenTable


async def prepare(
    request: GenerationRequest,
    model: ModelCard,
    tokenizer: ReplicatedTokenizer,
    tables: TokenTables,
) -> Prepared:
    """Encodes the prompt, checks its length, and asks for the rest where it is needed."""
    if request.remaining_s() == 0:
        raise DeadlineExceededError("The deadline of the request had passed on arrival.")
    prompt_ids = await prompt_token_ids(request, tokenizer, timeout_s=request.remaining_s())
    check_prompt_length(request, len(prompt_ids), model)
    return Prepared(
        prompt_ids=prompt_ids,
        echoed_text=await _echoed_text(request, prompt_ids, tokenizer),
        bad_words=await _bad_words(request, tokenizer),
        table=await _table(request, tokenizer, tables),
    )


async def _echoed_text(
    request: GenerationRequest, prompt_ids: Sequence[int], tokenizer: ReplicatedTokenizer
) -> str:
    """A text is repeated as it was written; ids as what they stand for."""
    if not request.output.echo or request.output.text is False:
        return ""
    if request.prompt is not None:
        return request.prompt
    return await tokenizer.decode(prompt_ids, timeout_s=request.remaining_s())


async def _bad_words(
    request: GenerationRequest, tokenizer: ReplicatedTokenizer
) -> Sequence[Sequence[int]]:
    """Each text as ids, at the beginning of a text and within one, where a space comes before it.
    A model that spells a word with other tokens than these is not caught.
    """
    words = request.sampling.bad_words
    if not words:
        return ()
    texts = [text for word in words for text in (word, f" {word}")]
    found = await tokenizer.encode_texts(
        texts, add_special_tokens=False, timeout_s=request.remaining_s()
    )
    for index, word in enumerate(words):
        if not (found[2 * index] and found[2 * index + 1]):
            limit = "text that makes at least one token"
            raise invalid_field(f"sampling.bad_words[{index}]", word, limit)
    return tuple(dict.fromkeys(found))


async def _table(
    request: GenerationRequest, tokenizer: ReplicatedTokenizer, tables: TokenTables
) -> TokenTable:
    output = request.output
    names_others = (
        output.top_logprobs or output.prompt_logprobs or (output.echo and output.token_ids)
    )
    if not names_others or output.text is False:
        return TokenTable()
    return await tables.table(tokenizer, timeout_s=request.remaining_s())
