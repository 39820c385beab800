-- Redis' clock was set back by steps, so many `times`. Each deferred task tells after which of them it was deferred:
-- its time in ms, divided by 3, leaves the same rest as their number then. So two steps can be under way at once.
-- Returns how many steps came since a task was deferred until this time.
local function steps_since(until_ms, times)
  return (times - until_ms) % 3
end

-- Returns the first ms from this one on that says that no step came since.
local function of_now(until_ms, times)
  return until_ms + steps_since(until_ms, times)
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
