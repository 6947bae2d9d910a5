"""Functions that build operations of the `graph` dialect and compute their result types.

In: tensor values, symbolic shapes, Python functions over `Scalar` for the bodies of maps. Out: the result's
`ir.Value`, built at the current insertion point and location. Importers and passes use these instead of
spelling out operations.
"""

from ..tensors import Shape as Shape
from ..tensors import element_of as element_of
from ..tensors import rank_of as rank_of
from ..tensors import shape_of as shape_of
from .contractions import convolution as convolution
from .contractions import convolution_transpose as convolution_transpose
from .contractions import gru as gru
from .contractions import lstm as lstm
from .contractions import matmul as matmul
from .contractions import pool as pool
from .contractions import window_output as window_output
from .host_values import download as download
from .host_values import fetch as fetch
from .host_values import host as host
from .host_values import keep as keep
from .host_values import object_type as object_type
from .host_values import upload as upload
from .movement import broadcast as broadcast
from .movement import concatenate as concatenate
from .movement import concatenate_to as concatenate_to
from .movement import expand_dimensions as expand_dimensions
from .movement import join as join
from .movement import pad as pad
from .movement import remove_dimensions as remove_dimensions
from .movement import reshape as reshape
from .movement import slice as slice
from .movement import transpose as transpose
from .operations import Unify as Unify
from .operations import attribute as attribute
from .operations import broadcast_shapes as broadcast_shapes
from .operations import build as build
from .operations import constant as constant
from .operations import dense as dense
from .operations import expressions as expressions
from .operations import product as product
from .operations import strict as strict
from .operations import true as true
from .operations import weight as weight
from .pointwise import cast as cast
from .pointwise import dimension as dimension
from .pointwise import element_at as element_at
from .pointwise import element_count as element_count
from .pointwise import element_here as element_here
from .pointwise import index as index
from .pointwise import map as map
from .pointwise import splat as splat
from .reductions import SCATTERED as SCATTERED
from .reductions import arg_reduce as arg_reduce
from .reductions import mean as mean
from .reductions import neutral as neutral
from .reductions import reduce as reduce
from .reductions import reduced_shape as reduced_shape
from .reductions import scan as scan
from .reductions import scatter as scatter
from .reductions import sort as sort
