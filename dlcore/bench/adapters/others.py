import numpy as np

from .common import (
    convolution,
    images,
    layer_arrays,
    net_layers,
    net_weights,
    normal,
    training_data,
    weights,
)


def limit_tensorflow(threads):
    import tensorflow

    tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(threads)


class TensorFlow:
    modules = ("tensorflow",)

    def __init__(self, threads):
        limit_tensorflow(threads)
        import tensorflow

        self.tf, self.version = tensorflow, tensorflow.__version__

    def _call(self, f, *arrays):
        f, arrays = self.tf.function(f), [self.tf.constant(a) for a in arrays]

        def call():
            result = f(*arrays)
            for tensor in result if isinstance(result, tuple) else (result,):
                tensor.numpy()  # the result is there, not only promised; no copy on the CPU

        return call, 1

    def gemm(self, m, n, k, transposed):
        flags = {"transpose_a": transposed == "A", "transpose_b": transposed == "B"}
        a = normal(k, m) if transposed == "A" else normal(m, k)
        b = normal(n, k) if transposed == "B" else normal(k, n)
        return self._call(lambda a, b: self.tf.linalg.matmul(a, b, **flags), a, b)

    def _function(self, name):
        if name == "gelu":
            return lambda x: self.tf.nn.gelu(x, approximate=True)
        return getattr(self.tf.nn if name == "relu" else self.tf, name)

    def pointwise(self, name, n):
        return self._call(self._function(name), normal(n))

    def pointwise_grad(self, name, n):
        f = self._function(name)

        def both(x, dy):
            with self.tf.GradientTape() as tape:
                tape.watch(x)
                y = f(x)
            return y, tape.gradient(y, x, dy)

        return self._call(both, normal(n), normal(n, seed=1))

    def softmax_cross_entropy(self, n, c):
        def both(x, y):
            with self.tf.GradientTape() as tape:
                tape.watch(x)
                losses = self.tf.nn.sparse_softmax_cross_entropy_with_logits(y, x)
                loss = self.tf.reduce_mean(losses)
            return loss, tape.gradient(loss, x)

        return self._call(both, normal(n, c), np.arange(n) % c)

    def _conv(self, shape):
        nn, (*_, stride, pad, groups) = self.tf.nn, shape
        strides, padding = [1, stride, stride, 1], "SAME" if pad else "VALID"
        if groups == 1:
            return lambda x, w: nn.conv2d(x, w, strides, padding)
        swap = (0, 1, 3, 2)
        return lambda x, w: nn.depthwise_conv2d(x, self.tf.transpose(w, swap), strides, padding)

    def conv(self, shape):
        x, w, _, _ = convolution(shape)
        return self._call(self._conv(shape), x, w)

    def conv_grad(self, shape, wanted):
        conv = self._conv(shape)

        def both(x, w, b, dy):
            inputs = [{"x": x, "w": w, "b": b}[name] for name in wanted]
            with self.tf.GradientTape() as tape:
                tape.watch(inputs)
                y = conv(x, w) + b
            return y, *tape.gradient(y, inputs, dy)

        return self._call(both, *convolution(shape))

    def _layer(self, kind):
        tf, nn = self.tf, self.tf.nn

        def rows(x, a, b):
            mean, variance = nn.moments(x, -1, keepdims=True)
            return nn.batch_normalization(x, mean, variance, b, a, 1e-3)

        return {
            "max_pool": lambda x, a, b: nn.max_pool2d(x, 2, 2, "VALID"),
            "batch_norm": lambda x, a, b: tf.compat.v1.nn.fused_batch_norm(x, a, b, epsilon=1e-3)[
                0
            ],
            "layer_norm": rows,
        }[kind]

    def layer(self, kind, shape):
        x, _, a, b = layer_arrays(kind, shape)
        return self._call(self._layer(kind), x, a, b)

    def layer_grad(self, kind, shape):
        f = self._layer(kind)

        def both(x, dy, a, b):
            inputs = [x] if kind == "max_pool" else [x, a, b]
            with self.tf.GradientTape() as tape:
                tape.watch(inputs)
                y = f(x, a, b)
            return y, *tape.gradient(y, inputs, dy)

        return self._call(both, *layer_arrays(kind, shape))


class OnnxRuntime:
    modules = ("onnxruntime", "onnx")

    def __init__(self, threads):
        import onnxruntime

        self.ort, self.version, self._threads = onnxruntime, onnxruntime.__version__, threads

    def _call(self, nodes, constants, **inputs):
        """`nodes`: (operator, inputs, output, attributes) in order; the last gives the result."""
        from onnx import TensorProto, helper, numpy_helper

        def info(name, shape=None):
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        graph = helper.make_graph(
            [helper.make_node(op, ins, [out], **attributes) for op, ins, out, attributes in nodes],
            "case",
            [info(name, a.shape) for name, a in inputs.items()],
            [info(nodes[-1][2])],
            [numpy_helper.from_array(a, name) for name, a in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        options = self.ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        session = self.ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return lambda: session.run(None, inputs), 1

    def gemm(self, m, n, k, transposed):
        a = normal(k, m) if transposed == "A" else normal(m, k)
        b = normal(n, k) if transposed == "B" else normal(k, n)
        flags = {"transA": int(transposed == "A"), "transB": int(transposed == "B")}
        return self._call([("Gemm", ["a", "b"], "y", flags)], {}, a=a, b=b)

    def conv(self, shape):
        *_, stride, pad, groups = shape
        x, w, _, _ = convolution(shape)
        x, w = np.ascontiguousarray(x.transpose(0, 3, 1, 2)), w.transpose(3, 2, 0, 1)
        attributes = {"strides": [stride] * 2, "pads": [pad] * 4, "group": groups}
        nodes = [("Conv", ["x", "w"], "y", attributes)]
        return self._call(nodes, {"w": np.ascontiguousarray(w)}, x=x)

    def pointwise(self, name, n):
        attributes = {"approximate": "tanh"} if name == "gelu" else {}
        return self._call([(name.capitalize(), ["x"], "y", attributes)], {}, x=normal(n))

    def predict_net(self, net, batch):
        nodes, constants, at = [], {}, "x"
        arrays = iter(net_weights(net))

        def add(operator, *names, **attributes):
            nonlocal at
            nodes.append((operator, [at, *names], f"{operator}{len(nodes)}", attributes))
            at = nodes[-1][2]

        def constant(*values):
            names = [f"c{len(constants) + i}" for i in range(len(values))]
            constants.update(zip(names, values, strict=True))
            return names

        for kind, _, _ in net_layers(net):
            if kind in ("conv", "conv_norm"):
                w, *rest = next(arrays)
                w = np.ascontiguousarray(w.transpose(3, 2, 0, 1))
                if kind == "conv":
                    add("Conv", *constant(w, *rest))
                else:
                    add("Conv", *constant(w), pads=[1] * 4)
                    add("BatchNormalization", *constant(*rest), epsilon=1e-3)
                add("Relu")
            elif kind == "pool":
                add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
            elif kind == "mean":
                add("GlobalAveragePool")
                add("Flatten")
            elif kind == "flatten":
                add("Flatten")
            elif kind == "dense":
                add("Gemm", *constant(*next(arrays)))
        add("Softmax")
        x, _ = images(net, batch)
        return self._call(nodes, constants, x=np.ascontiguousarray(x.transpose(0, 3, 1, 2)))

    def predict(self, sizes, how):
        nodes, constants, at = [], {}, "x"
        for i, (w, b) in enumerate(weights(sizes)):
            constants |= {f"w{i}": w, f"b{i}": b}
            nodes.append(("Gemm", [at, f"w{i}", f"b{i}"], f"z{i}", {}))
            nodes.append(("Relu", [f"z{i}"], f"h{i}", {}))
            at = f"h{i}"
        nodes[-1] = ("Softmax", [nodes[-1][1][0]], "y", {})
        return self._call(nodes, constants, x=normal(1, sizes[0]))


class ScikitLearn:
    modules = ("sklearn",)

    def __init__(self, threads):
        import warnings

        import sklearn

        warnings.simplefilter("ignore")  # one epoch does not converge
        self.version = sklearn.__version__

    def train(self, sizes, batch, loss):
        from sklearn.neural_network import MLPClassifier, MLPRegressor

        x, y = training_data(sizes, loss)
        kind = MLPRegressor if loss == "mse" else MLPClassifier
        options = {"batch_size": batch, "alpha": 0, "max_iter": 1, "warm_start": True}
        model = kind(hidden_layer_sizes=sizes[1:-1], **options)
        y = y.ravel()
        return lambda: model.fit(x, y), len(x) // batch

    def predict(self, sizes, how):
        from sklearn.neural_network import MLPClassifier

        x, y = normal(64, sizes[0]), np.arange(64) % sizes[-1]
        model, row = MLPClassifier(hidden_layer_sizes=sizes[1:-1], max_iter=1).fit(x, y), x[:1]
        return lambda: model.predict_proba(row), 1
