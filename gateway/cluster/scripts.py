"""What Redis does in one step, in Lua. Data only.

All keys of a cluster have its name in braces, so that they lie in one slot of a Redis Cluster.
"""

# Takes, keeps or refuses the lease. A new token is the time of Redis' clock in milliseconds, or one
# more than the newest known: so it grows where Redis lost all that it knew, or its clock went back.
# KEYS: lease, token. ARGV: gateway, milliseconds, newest token that the gateway knows.
# Returns the token and the holder.
HOLD = """
local lease = redis.call('GET', KEYS[1])
local token, holder
if lease then
  token, holder = string.match(lease, '^(%d+) (.*)$')
end
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
elseif not holder then
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  local newest = tonumber(redis.call('GET', KEYS[2]) or '0')
  holder = ARGV[1]
  token = string.format('%.0f', math.max(now, newest + 1, tonumber(ARGV[3]) + 1))
  redis.call('SET', KEYS[2], token)
  redis.call('SET', KEYS[1], token .. ' ' .. holder, 'PX', ARGV[2])
end
return {token, holder}
"""

# Gives the lease up. KEYS: lease. ARGV: gateway.
RELEASE = """
local lease = redis.call('GET', KEYS[1])
if lease and string.match(lease, '^%d+ (.*)$') == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
"""

# Writes a field of what the gateway that plans says, unless a newer token is known.
# KEYS: token, plan. ARGV: token, milliseconds to keep it, then fields and values.
# Returns 1 if it was written.
PUBLISH = """
local newest = tonumber(redis.call('GET', KEYS[1]) or '0')
if tonumber(ARGV[1]) < newest then
  return 0
end
if tonumber(ARGV[1]) > newest then
  redis.call('SET', KEYS[1], ARGV[1])
end
redis.call('HSET', KEYS[2], unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
"""
