from http_world import here

__all__ = ["here"]
