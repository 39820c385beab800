-- renew: keep the leases of deliveries in flight, at most a few hundred a call.
-- KEYS   queue
-- ARGV   group consumer idle_ms (that the lease starts at) lowest highest (of the ids) ids... (of entries)
-- Returns the ids that are still this consumer's.
-- Bounds 200 entries; a look at 10,000 pending ones.
-- Twice  the lease starts again.
-- Full   XCLAIM is the only write.
--- include lease renewal
--- names

local held = held_of(queue, group, consumer, lowest, highest, {unpack(ARGV, first)})
if #held > 0 then
  lease(queue, group, consumer, idle_ms, held)
end
return held
