#include "plan.h"
#include "simd_portable.h"
#include "encode.h"
#include "decoder.h"
#include "density.h"
#include "feature_bits.h"

const apm::Kernels apm::portable_kernels = {"portable", encode_tile, decode_tile, decode_backward_tile, slot_backward,
                                          density_tile, density_backward_tile, disturb_features, round_features,
                                          add_bit_slopes};
