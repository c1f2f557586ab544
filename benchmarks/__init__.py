"""How fast samjax is and how much memory it takes, beside what others would use: `python -m benchmarks NAME...`.

Each benchmark is one file with one question. Ours and its peers run in alternation, each in a fresh process, on the
same inputs, weights and precision (float32), on all cores; where both compute the same numbers they are compared.

    pip install -e '.[bench]' && pip install --no-deps segment-anything-py==1.0.1
    python -m benchmarks encoder decoder          # ViT-B at 1024 x 1024: minutes each
    python -m benchmarks encoder --preset tiny --size 64 --repeats 1
"""
