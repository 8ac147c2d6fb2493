"""Real videos and photographs -> shards: `sheap prepare INPUT... --output DIR`.

layouts.py       says by its path who is in a file
clips.py         finds the clips
landmarks.py     says where the 68 points come from
convert.py       makes records of one clip; quality.py says which frames are good enough
clip_result.py   stores the result of one clip
process.py       shields the run from a clip that crashes or hangs
engines.py       spreads the clips over cores or machines
pack.py          makes shards of all results
"""
