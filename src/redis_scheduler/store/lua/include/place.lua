-- The place that `entries` names for a task. Where foreign hands wrote what is no id, Redis refuses it: the task stands in no
-- entry then, and the others of the call must not be left half done for it.
local function pending_of(queue, group, id)
  local rows = redis.pcall('XPENDING', queue, group, id, id, 1)
  return not rows.err and rows[1] or nil
end

local function leave_queue(queue, group, entries, key, id)
  redis.pcall('XACK', queue, group, id)
  redis.pcall('XDEL', queue, id)
  redis.call('HDEL', entries, key)
end
