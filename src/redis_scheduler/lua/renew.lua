-- renew: keep the leases of deliveries in flight, at most a few hundred a call.
-- KEYS   queue
-- ARGV   group, consumer, idle time that the lease starts at (ms), lowest id, highest id, then the entry ids
-- Returns the ids that are still this consumer's.
-- Twice  the lease starts again.
--- include lease renewal
local group, consumer, idle_ms, lowest, highest = unpack(ARGV, 1, 5)
return renewed(KEYS[1], group, consumer, idle_ms, lowest, highest, {unpack(ARGV, 6)})
