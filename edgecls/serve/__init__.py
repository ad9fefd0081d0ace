"""A page and an HTTP API for one exported file. Needs the extra `serve`: starlette and uvicorn."""
