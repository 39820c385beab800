-- renew: keep the leases of deliveries in flight, at most a few hundred a call. XCLAIM does not look at the owner, so
-- only what is still pending for this consumer is claimed: a renewal never steals.
-- KEYS   queue
-- ARGV   group, consumer, idle time that the lease starts at (ms), lowest id, highest id, then the entry ids
-- Returns the ids that are still this consumer's.
-- Twice  the lease starts again.
local queue = KEYS[1]
local group, consumer, idle_ms, lowest, highest = unpack(ARGV, 1, 5)

local pending = {}
for _, row in ipairs(redis.call('XPENDING', queue, group, lowest, highest, 10000, consumer)) do
  pending[row[1]] = true
end
local held = {}
for i = 6, #ARGV do
  if pending[ARGV[i]] then
    held[#held + 1] = ARGV[i]
  end
end
if #held > 0 then
  local claim = {'XCLAIM', queue, group, consumer, 0}
  for _, id in ipairs(held) do
    claim[#claim + 1] = id
  end
  claim[#claim + 1] = 'IDLE'
  claim[#claim + 1] = idle_ms
  claim[#claim + 1] = 'JUSTID'
  redis.call(unpack(claim))
end
return held
