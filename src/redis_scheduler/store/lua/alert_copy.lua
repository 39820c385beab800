-- alert_copy: keep what another shard has noted for the alerts, unless this one has noted more; and when that came: so
-- no process looks after the deployment by this shard while another does by that one.
-- KEYS   alerts
-- ARGV   looks# (how many were noted there; 0: a look by that one goes on, and what it notes comes later)
-- each   name (a field of `alerts`) value
-- Returns nothing.
-- Bounds the fields of both: what alert keeps.
-- Twice  the same is kept already, and when it came.
-- Full   HDEL of nothing is the first write: it is kept all the same.
--- include clock foreign
--- names
local fields = redis.call('HGETALL', alerts)
redis.call('HDEL', alerts, '')
redis.call('HSET', alerts, 'led', string.format('%.0f', now_ms(math.floor)))
if looks <= number_of(redis.call('HGET', alerts, 'looks')) then
  return
end
for at = 1, #fields, 2 do
  if fields[at]:find('^is:') or fields[at]:find('^tell:') then
    redis.call('HDEL', alerts, fields[at])
  end
end
for at = first, #ARGV, width do
  --- row
  redis.call('HSET', alerts, name, value)
end
redis.call('HSET', alerts, 'looks', string.format('%.0f', looks))
