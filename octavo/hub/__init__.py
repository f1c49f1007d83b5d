"""Models by their name on a hub: `--hf-model-name ORG/NAME`.

    python -m octavo.hub ORG/NAME [--revision REVISION]      prints the folder

A process of its own downloads, with the library huggingface_hub: its cache (HF_HOME), its token
(HF_TOKEN), its mirror (HF_ENDPOINT), its HF_HUB_OFFLINE. Services and launcher only run it.

settings.py  the flags of a process that serves one model
fetch.py     runs the program, for a service that starts
download.py  what is downloaded, and what the hub's refusals mean
progress.py  how far it is
"""
