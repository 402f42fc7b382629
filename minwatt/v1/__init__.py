"""The contract between the parts: generated messages, the model directory, and what a model's outputs mean.

The ground floor beside `energy`: it imports none of the components, and all of them meet here.
`*_pb2*` files are generated from proto/ by `make proto` and never edited.
"""
