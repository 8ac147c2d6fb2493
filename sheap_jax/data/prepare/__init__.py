"""Real videos and photographs plus landmarks -> shards: `python -m sheap_jax.data.prepare INPUT... --output DIR`.

clips.py finds the inputs, landmarks.py says where the 68 points come from, convert.py makes one clip into records,
run.py goes through all clips and accounts for every file and frame.
"""
