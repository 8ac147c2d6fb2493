"""Converters of published weights into ours: `sheap convert {farl,dinov2,lpips,sheap} IN OUT`.

Files are read without running code from them. Every name that a network needs must be there in its shape; names that
nothing needs are listed. `official` is another matter: a recorded computation, which torch reads, for `sheap
predict` and `sheap eval`.
"""
