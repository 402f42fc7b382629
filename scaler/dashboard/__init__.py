"""The page that shows what a fleet does and why: served by the scaler, live, from what its loop tells.

`board` is a watcher of one policy's loop and holds what the page shows (`history`, `log`, `roster`); `server`
serves it; `page/` is what a browser runs.
"""
