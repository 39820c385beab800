-- XCLAIM does not look at the owner, so only entries still pending for this consumer may be leased again: a renewal
-- never steals. `lowest` and `highest` of the ids bound the look. Returns the ids that are still this consumer's.
local function held_of(queue, group, consumer, lowest, highest, ids)
  local pending = {}
  for _, row in ipairs(redis.call('XPENDING', queue, group, lowest, highest, 10000, consumer)) do
    pending[row[1]] = true
  end
  local held = {}
  for _, id in ipairs(ids) do
    if pending[id] then
      held[#held + 1] = id
    end
  end
  return held
end
