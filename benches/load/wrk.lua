-- What wrk sends and how it checks the answers; settings come as environment variables from lab/generators.py.
-- Each request carries the next token of the file TOKENS, and goes to the next of ROUTES routes. Answers with another
-- status than EXPECT are counted as wrong.
local function number(name, default)
  return tonumber(os.getenv(name) or "") or default
end

local expect, routes, body_bytes = number("EXPECT", 200), number("ROUTES", 1), number("BODY_BYTES", 0)
local path, limit, at = os.getenv("REQUEST_PATH") or "/", number("LIMIT", 1e9), number("START", 0)
local requests, threads = {}, {}

function setup(thread)
  table.insert(threads, thread)
end

function init()
  local body = body_bytes > 0 and string.rep("x", body_bytes) or nil
  local method = body and "POST" or "GET"
  for line in io.lines(os.getenv("TOKENS")) do
    if #requests >= limit then
      break
    end
    local headers = { ["Authorization"] = "Bearer " .. line }
    if os.getenv("CLOSE") then
      headers["Connection"] = "close"
    end
    local prefix = routes > 1 and "/service-" .. #requests % routes or ""
    requests[#requests + 1] = wrk.format(method, prefix .. path, headers, body)
  end
  wrong = 0
end

function request()
  at = at % #requests + 1
  return requests[at]
end

-- Handing large bodies to Lua would measure wrk; for them wrk's own count of statuses from 400, and the bytes, stand in.
if not os.getenv("LARGE") then
  function response(status)
    if status ~= expect then
      wrong = wrong + 1
    end
  end
end

function done(summary, latency)
  local wrong, errors = 0, summary.errors
  for _, thread in ipairs(threads) do
    wrong = wrong + thread:get("wrong")
  end
  if os.getenv("LARGE") then
    wrong = errors.status
  end
  io.write(string.format(
    'RESULT {"requests":%d,"wrong":%d,"bytes":%d,"seconds":%.6f,"connect_errors":%d,"read_errors":%d,"write_errors":%d,"timeouts":%d,"p50_us":%d,"p90_us":%d,"p99_us":%d,"p999_us":%d}\n',
    summary.requests, wrong, summary.bytes, summary.duration / 1e6, errors.connect, errors.read, errors.write, errors.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency:percentile(99.9)))
end
