"""The packages as their users get them: sdist, wheel, and each extra in environments that hold nothing else.

    PYTHONPATH=tests python -m packages demo-run/run

Needs uv, build and twine, as `make packages` installs them.
"""
