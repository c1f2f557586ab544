"""The HTTP protocol of nnInteractive's remote sessions, so that its clients for viewers work with samjax models."""
