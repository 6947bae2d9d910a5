"""Importers of ONNX operators, one function an operator, found by folder.

In: a `Node`. Out: IR values built with dialects/graph_builder. Adding an operator is adding a function
here.
"""
