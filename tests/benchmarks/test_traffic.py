from benchmarks.traffic import moved

PROGRAM = """HloModule step, is_scheduled=true

%fused (p: bf16[8,128]) -> bf16[8,128] {
  %p = bf16[8,128]{1,0} parameter(0)
  ROOT %double = bf16[8,128]{1,0} add(%p, %p)
}

%round (carry: (s32[], f32[10])) -> (s32[], f32[10]) {
  %carry = (s32[], f32[10]{0}) parameter(0)
  %x = f32[10]{0} get-tuple-element(%carry), index=1
  %y = f32[10]{0} negate(%x)
  ROOT %next = (s32[], f32[10]{0}) tuple(%i, %y)
}

%called (q: f32[2]) -> f32[2] {
  %q = f32[2]{0} parameter(0)
  ROOT %z = f32[2]{0} exponential(%q)
}

ENTRY %main (a: bf16[8,128], b: f32[10]) -> bf16[8,128] {
  %a = bf16[8,128]{1,0} parameter(0)
  %b = f32[10]{0} parameter(1)
  %c = bf16[8,128]{1,0} fusion(%a), kind=kLoop, calls=%fused, metadata={op_name="jit(f)/add(%b)"}
  %t = (s32[], f32[10]{0}) tuple(%n, %b)
  %rounds = (s32[], f32[10]{0}) while(%t), condition=%more, body=%round, backend_config={"known_trip_count":{"n":"7"}}
  %start = ((f32[2]{0}), f32[2]{0}, u32[]) async-start(%two), to_apply=%called
  %done = f32[2]{0} async-done(%start)
  %out = (bf16[8,128]{1,0}, u8[64]{0}) custom-call(%c, %a), custom_call_target="__cudnn"
  ROOT %first = bf16[8,128]{1,0} get-tuple-element(%out), index=0
}
"""  # noqa: E501


def test_operations_read_their_operands_and_write_their_results_and_rounds_count():
    array = 8 * 128 * 2
    assert moved(PROGRAM) == 2 * array + 7 * 2 * 40 + 2 * 8 + (3 * array + 64)
