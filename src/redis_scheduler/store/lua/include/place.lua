-- The entry that `entries` names for a task. Redis refuses a text that is no id (foreign hands wrote it): then the task
-- stands in no entry, and the others of the call must not be left half done.
local function pending_of(queue, group, id)
  local rows = redis.pcall('XPENDING', queue, group, id, id, 1)
  return not rows.err and rows[1] or nil
end

local function leave_queue(queue, group, entries, key, id)
  redis.pcall('XACK', queue, group, id)
  redis.pcall('XDEL', queue, id)
  redis.call('HDEL', entries, key)
end
