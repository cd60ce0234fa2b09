"""See backprop: any recorded graph, opened, and every number in it followed from the loss to the parameters.

    loss = ops.mse(model(x), y)
    explanation = minidl.explain(loss, check=True)
    print(explanation)                  # the backward pass in order, beside finite differences
    explanation.html("backprop.html")   # a page that draws it and steps through it
    explanation.svg("backprop.svg")     # a picture for a paper; .dot() for Graphviz; notebooks show it by themselves

`reverse` walks the graph as the engine does and keeps all that flows, `record` puts it in order, `check` repeats the
computation for finite differences; `text`, `svg` and `page` show it, the last two with the places of `layout`.
"""

from minidl.explanation.example import example
from minidl.explanation.explanation import Explanation, explain
from minidl.explanation.opened import Fault
from minidl.explanation.record import Entry, Passed

__all__ = ["Entry", "Explanation", "Fault", "Passed", "example", "explain"]
