"""The building blocks of a decoder: each packs its weights once and calls the kernels."""
