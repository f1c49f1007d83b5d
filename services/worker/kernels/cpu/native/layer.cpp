#include "layer.h"

#include "elementwise.h"

namespace octavo {

namespace {

struct Work {
  Team& team;
  const Layer& layer;
  const Cache& cache;
  const LayerRows& step;
};

// What the first layer's attention reads; the others' lies alike.
void expect(const Work& work, int thread, int size, Later& later) {
  const Rows& rows = *work.step.rows;
  later.clear(kAheadBytes);
  if (asks_for_later(rows.num_rows))
    expect_tiles(work.cache, rows, work.layer.num_heads, thread, size, later);
  later.restart(work.cache.keys);
}

void attention(const Work& work, int thread, int size, Later& later) {
  const Layer& layer = work.layer;
  const LayerRows& step = work.step;
  const Cache& cache = work.cache;
  const int64_t num_rows = step.rows->num_rows, dims = cache.head_dim;
  const int64_t num_turned = layer.num_heads + cache.num_kv_heads;
  rms_norm(step.hidden, layer.attention_norm, layer.norm_eps, num_rows, layer.qkv.inputs,
           step.normed, thread, size);
  work.team.barrier(thread);
  linear(layer.qkv, step.normed, num_rows, step.qkv, thread, size, &later);
  work.team.barrier(thread);
  if (layer.query_norm) {
    norm_heads(step.qkv, layer.qkv.outputs, layer.query_norm, layer.norm_eps, num_rows,
               layer.num_heads, dims, thread, size);
    norm_heads(step.qkv + layer.num_heads * dims, layer.qkv.outputs, layer.key_norm,
               layer.norm_eps, num_rows, cache.num_kv_heads, dims, thread, size);
  }
  // The rows of a thread are the same in these three: nobody has to wait.
  rotary(step.qkv, false, layer.qkv.outputs, step.cos, step.sin, num_rows, num_turned, dims,
         step.turned, thread, size);
  write_kv(cache, *step.rows, step.turned + layer.num_heads * dims, num_turned * dims,
           step.qkv + num_turned * dims, layer.qkv.outputs, thread, size);
  work.team.barrier(thread);
  attend_tiles(cache, *step.rows, step.turned, num_turned * dims, layer.num_heads, layer.scale,
               step.scratch, thread, size);
  work.team.barrier(thread);
  merge_tiles(cache, *step.rows, layer.num_heads, step.scratch, step.attended, thread, size);
  work.team.barrier(thread);
}

void output(const Work& work, int thread, int size, Later& later) {
  const LayerRows& step = work.step;
  linear(work.layer.out, step.attended, step.rows->num_rows, step.hidden, thread, size, &later);
}

void mlp(const Work& work, int thread, int size, Later& later) {
  const Layer& layer = work.layer;
  const LayerRows& step = work.step;
  const int64_t num_rows = step.rows->num_rows;
  rms_norm(step.hidden, layer.mlp_norm, layer.norm_eps, num_rows, layer.gate_up.inputs, step.normed,
           thread, size);
  work.team.barrier(thread);
  linear(layer.gate_up, step.normed, num_rows, step.gated, thread, size, &later);
  work.team.barrier(thread);
  linear(layer.down, step.gated, num_rows, step.hidden, thread, size, &later);
}

}  // namespace

void run_layers(Team& team, const Layer* layers, const Cache* caches, const LayerRows* const* steps,
                int64_t num_layers) {
  auto all = [&](int thread, int size) {
    static thread_local Later later;
    for (int64_t index = 0; index < num_layers; ++index) {
      const Work work{team, layers[index], caches[index], *steps[index]};
      if (index > 0) {
        team.barrier(thread);
      } else {
        expect(work, thread, size, later);
      }
      attention(work, thread, size, later);
      if (index + 1 < num_layers) later.restart(caches[index + 1].keys);
      output(work, thread, size, later);
      team.barrier(thread);
      mlp(work, thread, size, later);
    }
  };
  team.run([](void* context, int thread,
              int size) { (*static_cast<decltype(all)*>(context))(thread, size); },
           &all);
}

}  // namespace octavo
