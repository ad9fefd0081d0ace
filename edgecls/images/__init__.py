"""Image files: what Pillow reads wrongly, or not at all, and what deep gray values mean."""
