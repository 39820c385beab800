-- retire: delete consumers that are gone: idle long enough, with nothing pending. One script looks and deletes, since
-- deleting a consumer drops its pending entries.
-- KEYS   queue workers
-- ARGV   group waiting idle_ms# (the least) only (the one consumer to look at; '' for all)
-- Returns how many were deleted.
-- Bounds a row a consumer: those that are gone are deleted here.
-- Twice  there is nothing left to delete.
-- Full   it only removes.
--- names

-- Without the group this fails here: XINFO of a missing queue would not say that the group is missing.
redis.call('XPENDING', queue, group)
local retired = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', queue, group)) do
  local name, pending, idle = consumer[2], consumer[4], consumer[6]
  if pending == 0 and idle >= idle_ms and name ~= waiting and (only == '' or only == name) then
    redis.call('XGROUP', 'DELCONSUMER', queue, group, name)
    redis.pcall('ZREM', workers, name)
    retired = retired + 1
  end
end
return retired
