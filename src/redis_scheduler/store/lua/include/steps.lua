-- Redis' clock was set back by steps, so many `times`. Each deferred task tells after which of them it was deferred:
-- its time in ms, divided by 3, leaves the same rest as their number then. So two steps can be under way at once.
-- Returns the next ms that says that a task is deferred now; the same one for what was deferred since the last step.
local function of_now(until_ms, times)
  return until_ms + (times - until_ms) % 3
end

-- Returns by how much (ms) to move what was deferred before the last step, and what was before the last two. `text` has
-- the steps whose rewind has not ended, the last one first.
local function steps_of(text)
  local sums, sum = {}, 0
  for step_ms in string.gmatch(text or '', '%d+') do
    sum = sum + number_of(step_ms)
    sums[#sums + 1] = sum
  end
  return sums
end
