"""The plugin contract: specs, markers, ``@plugin``, the relay that calls plugins and checks what they return."""
