"""Tools for fx graphs and ATen operations that all other packages use."""

from __future__ import annotations

from lrp_fx.graph.calls import (
    Argument as Argument,
    Packet as Packet,
    arguments as arguments,
    as_tuple as as_tuple,
    aten as aten,
    bind as bind,
    called as called,
    name_of as name_of,
    operand as operand,
    overloads_of as overloads_of,
    packet_of as packet_of,
    types_of as types_of,
)
from lrp_fx.graph.composed import composed as composed, simpler as simpler
from lrp_fx.graph.contractions import (
    ELLIPSIS as ELLIPSIS,
    ON_THE_LEFT as ON_THE_LEFT,
    ON_THE_RIGHT as ON_THE_RIGHT,
    PRODUCT as PRODUCT,
    einsum_adjoint as einsum_adjoint,
    matmul_adjoint as matmul_adjoint,
    product as product,
    product_adjoint as product_adjoint,
)
from lrp_fx.graph.editing import (
    before_expansion as before_expansion,
    call_like as call_like,
    call_like_getitem as call_like_getitem,
    call_with_operand as call_with_operand,
    index_of as index_of,
    is_call as is_call,
    remove_unused as remove_unused,
    replace_by as replace_by,
    tensor_at as tensor_at,
)
from lrp_fx.graph.fourier import (
    FOURIER as FOURIER,
    SWAPPED as SWAPPED,
    fourier_adjoint as fourier_adjoint,
)
from lrp_fx.graph.literals import (
    MAX_STEPS as MAX_STEPS,
    Affine as Affine,
    affine as affine,
    as_whole_number as as_whole_number,
    equal_calls as equal_calls,
    is_same as is_same,
    literal as literal,
    unwound as unwound,
)
from lrp_fx.graph.operations import (
    ACTIVATIONS as ACTIVATIONS,
    ADDITIONS as ADDITIONS,
    ARITHMETIC as ARITHMETIC,
    CASTS as CASTS,
    CONVOLUTIONS as CONVOLUTIONS,
    LAYERS as LAYERS,
    MATRIX_PRODUCTS as MATRIX_PRODUCTS,
    NORMS as NORMS,
    NUMERIC as NUMERIC,
    STEPS as STEPS,
    TRANSPOSED_CONVOLUTIONS as TRANSPOSED_CONVOLUTIONS,
    Row as Row,
    draws as draws,
    ends_of_clip as ends_of_clip,
    in_place_form as in_place_form,
    is_size as is_size,
    names_where as names_where,
    row_named as row_named,
    row_of as row_of,
    shares_memory as shares_memory,
)
from lrp_fx.graph.private_torch import (
    SEEN as SEEN,
    BatchNorm as BatchNorm,
    HigherOrderOperator as HigherOrderOperator,
    ModuleTracer as ModuleTracer,
    NormBase as NormBase,
    OpOverload as OpOverload,
    OpOverloadPacket as OpOverloadPacket,
    StorageReference as StorageReference,
    TorchDispatchMode as TorchDispatchMode,
    TreeSpec as TreeSpec,
    call_at_once as call_at_once,
    compile_and_package as compile_and_package,
    exports_traced_by as exports_traced_by,
    functionalized as functionalized,
    global_hooks as global_hooks,
    has_compiler as has_compiler,
    hold_as_buffer as hold_as_buffer,
    is_of_functorch as is_of_functorch,
    load_package as load_package,
    make_parameter as make_parameter,
    members_of as members_of,
    not_compiled as not_compiled,
    property_getter as property_getter,
    schema_of as schema_of,
    torch_assert as torch_assert,
    tree_flatten as tree_flatten,
    tree_unflatten as tree_unflatten,
    version_of as version_of,
    without_data as without_data,
)
from lrp_fx.graph.recurrent import (
    RECURRENT as RECURRENT,
    WholeLayers as WholeLayers,
    of_torch as of_torch,
)
from lrp_fx.graph.shape_rules import broadcast_shape as broadcast_shape, on_meta as on_meta
from lrp_fx.graph.shapes import (
    EXAMPLE as EXAMPLE,
    Constants as Constants,
    Shapes as Shapes,
    forget_shapes as forget_shapes,
    recorded_shape as recorded_shape,
    shape_of as shape_of,
    shapes_of as shapes_of,
)
from lrp_fx.graph.source import graph_module_of as graph_module_of, with_source as with_source
from lrp_fx.graph.walks import (
    ancestors as ancestors,
    depends_on_inputs as depends_on_inputs,
    descendants as descendants,
    in_order as in_order,
    needed_by as needed_by,
    split_by_dependence as split_by_dependence,
)
from lrp_fx.graph.whereabouts import Call as Call, module_path as module_path, where as where
