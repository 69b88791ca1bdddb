"""Images: build, tag, push, ship."""
