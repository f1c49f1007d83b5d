from __future__ import annotations

from itertools import islice

from octavo.bench.workload import Workload


def test_equal_workloads_have_equal_jobs() -> None:
    workload = Workload(vocabulary_size=100, max_tokens=8, cancelled_share=0.5)
    first = list(islice(workload.jobs(), 50))
    assert first == list(islice(workload.jobs(), 50))
    assert first != list(islice(Workload(vocabulary_size=100, max_tokens=8, seed=1).jobs(), 50))
    assert [job.number for job in first] == list(range(50))


def test_prompts_have_every_length_and_only_ids_of_the_vocabulary() -> None:
    jobs = list(islice(Workload(vocabulary_size=7, max_tokens=8).jobs(), 2_000))
    lengths = sorted(len(job.prompt_ids) for job in jobs)
    assert lengths[0] == 5
    assert lengths[-1] == 400
    assert 30 < lengths[1_000] < 65  # the middle of the logarithm is 45
    assert {token_id for job in jobs for token_id in job.prompt_ids} == set(range(7))


def test_a_share_of_the_jobs_is_cancelled_midway() -> None:
    jobs = list(
        islice(Workload(vocabulary_size=7, max_tokens=8, cancelled_share=0.25).jobs(), 2_000)
    )
    cancelled = [job.cancel_after for job in jobs if job.cancel_after is not None]
    assert 400 < len(cancelled) < 600
    assert set(cancelled) == set(range(1, 8))
    assert not any(
        job.cancel_after for job in islice(Workload(vocabulary_size=7, max_tokens=8).jobs(), 100)
    )
