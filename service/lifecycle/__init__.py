"""Several models in one replica, and their coming and going while requests are answered.

A request is answered by the model it found at the door. Another one takes a model's place only once it has
been loaded, checked, warmed up and rehearsed beside it; what can't is refused, and the old one keeps
serving. Assembled by `service.server`.

    models      which models are resident, who uses which, and when one that was replaced may go
    resident    one model and all that answers for it
    loading     from a directory on disk to a resident model
    rehearsal   a loaded model answers some texts before anybody else's
    memory      whether there is room for one more
    lifecycle   load, unload, reload, and the variant that the operating point asks for
"""
