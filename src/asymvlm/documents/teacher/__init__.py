"""The tiny teacher: a LLaVA that reads generated pages, trained from scratch."""
