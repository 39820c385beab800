-- Leases entries of this consumer: their idle time begins at `idle_ms`.
local function lease(queue, group, consumer, idle_ms, ids)
  local claim = {'XCLAIM', queue, group, consumer, 0, unpack(ids)}
  claim[#claim + 1] = 'IDLE'
  claim[#claim + 1] = idle_ms
  claim[#claim + 1] = 'JUSTID'
  redis.call(unpack(claim))
end
