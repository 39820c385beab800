-- What is deferred stands at even ms and at odd ones, in turn with each of the `times` that Redis' clock was set back.
-- Returns the next ms that is as what is deferred now; the same one for what was deferred since the clock was set back
-- last.
local function of_now(until_ms, times)
  return until_ms + (until_ms + times) % 2
end
