"""A policy network in eager torch, on one thread, as a peer for ``mbrl bench policy``."""

import time

import torch
from worker import serve

NETS = {}


def hello(_arrays, threads):
    torch.set_num_threads(threads)
    return {"name": "torch eager", "version": torch.__version__.split("+")[0]}, {}


def policy(arrays, key):
    """The net of layers w0, b0, w1, ... with tanh between them."""
    layers = []
    for i in range(len(arrays) // 2):
        w, b = (torch.from_numpy(arrays[f"{name}{i}"]) for name in "wb")
        layer = torch.nn.Linear(*w.shape)
        layer.weight.data, layer.bias.data = w.T.contiguous(), b.reshape(-1)
        layers += [layer, torch.nn.Tanh()]
    NETS[key] = torch.nn.Sequential(*layers[:-1])
    return {}, {}


@torch.inference_mode()
def act(arrays, key):
    return {}, {"u": NETS[key](torch.from_numpy(arrays["x"])).numpy()}


@torch.inference_mode()
def calls(arrays, key, count):
    """The time of each of so many calls [s]."""
    net, x, spent = NETS[key], torch.from_numpy(arrays["x"]), []
    for _ in range(count):
        begun = time.perf_counter()
        net(x)
        spent.append(time.perf_counter() - begun)
    return {}, {"seconds": spent}


if __name__ == "__main__":
    serve({"hello": hello, "policy": policy, "act": act, "calls": calls})
