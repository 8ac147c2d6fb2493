"""Real videos and photographs -> shards: `sheap prepare INPUT... --output DIR`.

layouts.py says who is in a file by its path, clips.py finds the clips, landmarks.py says where the 68 points come from,
convert.py makes one clip into records with the filters of quality.py. unit.py stores the result of one clip, process.py
shields the run from it, engines.py spreads the clips over cores or machines, pack.py makes shards of all results.
"""
