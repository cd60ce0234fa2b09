"""Explain backpropagation: open any recorded graph and follow every number from the loss to the parameters.

    loss = ops.mse(model(x), y)
    explanation = minidl.explain(loss, check=True)
    print(explanation)                  # the backward pass in order, beside finite differences
    explanation.html("backprop.html")   # a page that draws it and steps through it
    explanation.svg("backprop.svg")     # a figure for a paper; .dot() for Graphviz; notebooks display it

`reverse` walks the graph as the engine does and keeps every gradient, `record` lists the results in order, `check`
repeats the computation for finite differences; `text`, `svg` and `page` show them, the last two arranged by `layout`.
"""

from minidl.explanation.example import example
from minidl.explanation.explanation import Explanation, explain
from minidl.explanation.opened import Fault
from minidl.explanation.record import Entry, Passed

__all__ = ["Entry", "Explanation", "Fault", "Passed", "example", "explain"]
