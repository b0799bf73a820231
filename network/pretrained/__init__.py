"""Load weights of other projects and of this one, and build the network that they were made for.

source               what is known of weights that can be loaded by name
sources              the weights that can be loaded by name, as a table
torchvision_sources  those of torchvision, read from its own tables
download             the file of a source, downloaded unless it is there
layouts              how other projects name their tensors, and how their networks differ from ours
recognition          which network the tensors of a file belong to
opening              read weights by name or from a file
loading              build the network, put the weights into it
"""
