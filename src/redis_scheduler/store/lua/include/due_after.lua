-- When a task is due: `delay_ms` from now on or, below zero, at the time whose negative it is, but not before now.
local function due_after(now, delay_ms)
  local due_ms = now + delay_ms
  return due_ms < now and math.max(now, now - due_ms) or due_ms
end
