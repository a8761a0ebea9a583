"""The network: adaptively placed feature grids and a decoder."""
