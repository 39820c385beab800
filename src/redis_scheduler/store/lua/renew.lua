-- renew: keep the leases of deliveries in flight, at most a few hundred a call.
-- KEYS   queue
-- ARGV   group, consumer, idle time that the lease starts at (ms), lowest id, highest id, then the entry ids
-- Returns the ids that are still this consumer's.
-- Bounds 200 entries; a look at 10,000 pending ones.
-- Twice  the lease starts again.
-- Full   XCLAIM is the only write.
--- include lease renewal
local group, consumer, idle_ms, lowest, highest = unpack(ARGV, 1, 5)

local held = held_of(KEYS[1], group, consumer, lowest, highest, {unpack(ARGV, 6)})
if #held > 0 then
  lease(KEYS[1], group, consumer, idle_ms, held)
end
return held
