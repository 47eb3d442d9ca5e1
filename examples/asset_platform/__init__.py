"""An asset platform: six endpoints that cost credits, three that do not (`app.py`), and what makes assets (`studio.py`)."""
