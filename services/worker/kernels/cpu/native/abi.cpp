// The C interface: plain pointers and numbers, called through ctypes.
#include "argmax.h"
#include "attention.h"
#include "elementwise.h"
#include "layer.h"
#include "linear.h"
#include "team.h"

using namespace octavo;

namespace {

// Runs `work(thread, num_threads)` on the whole team.
template <class Work>
void on(Team* team, Work work) {
  team->run([](void* context, int thread, int size) { (*static_cast<Work*>(context))(thread, size); },
            &work);
}

}  // namespace

extern "C" {

Team* octavo_team_create(int32_t num_threads, const int32_t* cores, int32_t num_cores) {
  return new Team(num_threads, cores, num_cores);
}

void octavo_team_destroy(Team* team) { delete team; }

int64_t octavo_packed_bytes(int64_t outputs, int64_t inputs, int32_t weight_kind, int32_t epilogue) {
  return packed_bytes(outputs, inputs, weight_kind, epilogue);
}

int64_t octavo_packed_channels(int64_t outputs, int32_t epilogue) {
  return packed_blocks(outputs, epilogue) * kBlockChannels;
}

void octavo_pack_rows(void* packed, const void* rows, int64_t first_row, int64_t count,
                      int64_t outputs, int64_t inputs, int32_t weight_kind, int32_t epilogue) {
  pack_rows(packed, rows, first_row, count, outputs, inputs, weight_kind, epilogue);
}

void octavo_pack_channels(float* packed, const float* values, int64_t outputs, int32_t epilogue) {
  pack_channels(packed, values, outputs, epilogue);
}

void octavo_linear(Team* team, const Matrix* matrix, const Bf16* x, int64_t num_rows, void* out) {
  on(team, [&](int thread, int size) { linear(*matrix, x, num_rows, out, thread, size); });
}

void octavo_rms_norm(Team* team, const float* x, const float* weight, float eps, int64_t num_rows,
                     int64_t width, Bf16* out) {
  on(team, [&](int thread, int size) {
    rms_norm(x, weight, eps, num_rows, width, out, thread, size);
  });
}

void octavo_rotary(Team* team, const void* x, int32_t x_is_f32, int64_t x_stride, const float* cos,
                   const float* sin, int64_t num_rows, int64_t num_heads, int64_t head_dim,
                   float* out) {
  on(team, [&](int thread, int size) {
    rotary(x, x_is_f32 != 0, x_stride, cos, sin, num_rows, num_heads, head_dim, out, thread, size);
  });
}

void octavo_silu_mul(Team* team, const Bf16* gate_up, int64_t num_rows, int64_t width, Bf16* out) {
  on(team, [&](int thread, int size) { silu_mul(gate_up, num_rows, width, out, thread, size); });
}

void octavo_argmax(Team* team, const float* logits, int64_t num_rows, int64_t width, int64_t* ids) {
  on(team, [&](int thread, int size) { argmax(logits, num_rows, width, ids, thread, size); });
}

void octavo_write_kv(Team* team, const Cache* cache, const Rows* rows, const float* keys,
                     int64_t key_stride, const Bf16* values, int64_t value_stride) {
  on(team, [&](int thread, int size) {
    write_kv(*cache, *rows, keys, key_stride, values, value_stride, thread, size);
  });
}

int64_t octavo_most_tiles(const Rows* rows) { return most_tiles(*rows); }

int64_t octavo_attention_scratch(const Cache* cache, const Rows* rows, int64_t num_heads) {
  return attention_scratch(*cache, *rows, num_heads);
}

void octavo_attend(Team* team, const Cache* cache, const Rows* rows, const float* queries,
                   int64_t query_stride, int64_t num_heads, float scale, float* scratch, Bf16* out) {
  on(team, [&](int thread, int size) {
    attend_tiles(*cache, *rows, queries, query_stride, num_heads, scale, scratch, thread, size);
    team->barrier(thread);
    merge_tiles(*cache, *rows, num_heads, scratch, out, thread, size);
  });
}

void octavo_run_layers(Team* team, const Layer* layers, const Cache* caches,
                       const LayerRows* const* steps, int64_t num_layers) {
  run_layers(*team, layers, caches, steps, num_layers);
}

}  // extern "C"
