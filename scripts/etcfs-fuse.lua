-- Explains recordings of etcfs to Wireshark and tshark:
--
--   etcfsctl decode --pcapng storm.pcapng storm.etcfsrec
--   tshark -X lua_script:scripts/etcfs-fuse.lua -r storm.pcapng -Y 'etcfs.opcode == 1'
--
-- A packet is: kind u8, flags u8 (1: the message is big-endian), cpu u16, thread u32, opcode u32, length u32, all of them
-- little-endian, and then the FUSE message as far as it was recorded.

local kinds = { [1] = "INIT", [2] = "request", [3] = "answer", [4] = "done", [5] = "lost", [6] = "rules",
    [7] = "restart" }

-- Opcodes of protocol 7.45: name, length of the fixed arguments, and how many names follow them.
local opcodes = {
    [1] = { "LOOKUP", 0, 1 }, [2] = { "FORGET", 8, 0 }, [3] = { "GETATTR", 16, 0 }, [4] = { "SETATTR", 88, 0 },
    [5] = { "READLINK", 0, 0 }, [6] = { "SYMLINK", 0, 2 }, [8] = { "MKNOD", 16, 1 }, [9] = { "MKDIR", 8, 1 },
    [10] = { "UNLINK", 0, 1 }, [11] = { "RMDIR", 0, 1 }, [12] = { "RENAME", 8, 2 }, [13] = { "LINK", 8, 1 },
    [14] = { "OPEN", 8, 0 }, [15] = { "READ", 40, 0 }, [16] = { "WRITE", 40, 0 }, [17] = { "STATFS", 0, 0 },
    [18] = { "RELEASE", 24, 0 }, [20] = { "FSYNC", 16, 0 }, [21] = { "SETXATTR", 8, 0 }, [22] = { "GETXATTR", 8, 1 },
    [23] = { "LISTXATTR", 8, 0 }, [24] = { "REMOVEXATTR", 0, 1 }, [25] = { "FLUSH", 24, 0 }, [26] = { "INIT", 16, 0 },
    [27] = { "OPENDIR", 8, 0 }, [28] = { "READDIR", 40, 0 }, [29] = { "RELEASEDIR", 24, 0 },
    [30] = { "FSYNCDIR", 16, 0 }, [31] = { "GETLK", 48, 0 }, [32] = { "SETLK", 48, 0 }, [33] = { "SETLKW", 48, 0 },
    [34] = { "ACCESS", 8, 0 }, [35] = { "CREATE", 16, 1 }, [36] = { "INTERRUPT", 8, 0 }, [37] = { "BMAP", 16, 0 },
    [38] = { "DESTROY", 0, 0 }, [39] = { "IOCTL", 32, 0 }, [40] = { "POLL", 24, 0 }, [41] = { "NOTIFY_REPLY", 40, 0 },
    [42] = { "BATCH_FORGET", 8, 0 }, [43] = { "FALLOCATE", 32, 0 }, [44] = { "READDIRPLUS", 40, 0 },
    [45] = { "RENAME2", 16, 2 }, [46] = { "LSEEK", 24, 0 }, [47] = { "COPY_FILE_RANGE", 56, 0 },
    [48] = { "SETUPMAPPING", 40, 0 }, [49] = { "REMOVEMAPPING", 4, 0 }, [50] = { "SYNCFS", 8, 0 },
    [51] = { "TMPFILE", 16, 1 }, [52] = { "STATX", 24, 0 }, [53] = { "COPY_FILE_RANGE_64", 56, 0 },
    [4096] = { "CUSE_INIT", 16, 0 },
}

local names = {}
for number, row in pairs(opcodes) do
    names[number] = row[1]
end

local etcfs = Proto("etcfs", "FUSE recorded by etcfs")
local f = {
    kind = ProtoField.uint8("etcfs.kind", "Kind", base.DEC, kinds),
    cpu = ProtoField.uint16("etcfs.cpu", "Processor"),
    thread = ProtoField.uint32("etcfs.thread", "Thread"),
    opcode = ProtoField.uint32("etcfs.opcode", "Opcode", base.DEC, names),
    len = ProtoField.uint32("etcfs.len", "Length on the wire"),
    unique = ProtoField.uint64("etcfs.unique", "unique"),
    nodeid = ProtoField.uint64("etcfs.nodeid", "nodeid"),
    uid = ProtoField.uint32("etcfs.uid", "uid"),
    gid = ProtoField.uint32("etcfs.gid", "gid"),
    pid = ProtoField.uint32("etcfs.pid", "pid"),
    error = ProtoField.int32("etcfs.error", "error"),
    name = ProtoField.string("etcfs.name", "Name"),
    second = ProtoField.string("etcfs.second", "Second name"),
    args = ProtoField.bytes("etcfs.args", "Arguments"),
    body = ProtoField.bytes("etcfs.body", "Body"),
    lost = ProtoField.uint32("etcfs.lost", "Records missing"),
    left_out = ProtoField.uint32("etcfs.left_out", "Bytes left out of the recording"),
    asked_in = ProtoField.framenum("etcfs.asked_in", "Asked in", base.NONE, frametype.REQUEST),
    latency = ProtoField.double("etcfs.latency", "Seconds since the request"),
}
etcfs.fields = {
    f.kind, f.cpu, f.thread, f.opcode, f.len, f.unique, f.nodeid, f.uid, f.gid, f.pid, f.error, f.name, f.second, f.args,
    f.body, f.lost, f.left_out, f.asked_in, f.latency,
}

-- Requests by number, and the request of each answer, both filled in the first pass over the file.
local asked, answers = {}, {}

function etcfs.init()
    asked, answers = {}, {}
end

-- A name that ends in NUL, and where the next one begins.
local function add_name(tree, field, buffer, at)
    if at >= buffer:len() then
        return nil, at
    end
    local rest = buffer(at)
    local text = rest:stringz()
    tree:add(field, rest(0, math.min(#text, rest:len())), text)
    return text, at + #text + 1
end

local function request(tree, message, number, row, swapped, pinfo)
    local function add(field, at, size)
        local range = message(at, size)
        if swapped then tree:add(field, range) else tree:add_le(field, range) end
    end
    if message:len() < 40 then
        return ""
    end
    add(f.unique, 8, 8)
    add(f.nodeid, 16, 8)
    add(f.uid, 24, 4)
    add(f.gid, 28, 4)
    add(f.pid, 32, 4)
    if not pinfo.visited then
        asked[tostring(message(8, 8))] = { pinfo.number, pinfo.abs_ts }
    end
    local at = 40 + (row and row[2] or 0)
    if row and row[2] > 0 and message:len() >= at then
        tree:add(f.args, message(40, row[2]))
    end
    if not row or row[3] == 0 then
        return ""
    end
    local name, behind = add_name(tree, f.name, message, at)
    if name and row[3] == 2 then
        local second = add_name(tree, f.second, message, behind)
        return " " .. name .. " " .. (second or "")
    end
    return name and (" " .. name) or ""
end

local function answer(tree, message, swapped, pinfo)
    if message:len() < 16 then
        return ""
    end
    local error = swapped and message(4, 4):int() or message(4, 4):le_int()
    if swapped then
        tree:add(f.error, message(4, 4))
        tree:add(f.unique, message(8, 8))
    else
        tree:add_le(f.error, message(4, 4))
        tree:add_le(f.unique, message(8, 8))
    end
    if message:len() > 16 then
        tree:add(f.body, message(16))
    end
    if not pinfo.visited then
        answers[pinfo.number] = asked[tostring(message(8, 8))]
    end
    local from = answers[pinfo.number]
    if from then
        tree:add(f.asked_in, from[1]):set_generated()
        tree:add(f.latency, pinfo.abs_ts - from[2]):set_generated()
    end
    return error == 0 and " ok" or (" error " .. error)
end

function etcfs.dissector(buffer, pinfo, root)
    if buffer:len() < 16 then
        return 0
    end
    local tree = root:add(etcfs, buffer())
    local kind = buffer(0, 1):uint()
    local swapped = buffer(1, 1):uint() % 2 == 1
    local number = buffer(8, 4):le_uint()
    local len = buffer(12, 4):le_uint()
    tree:add(f.kind, buffer(0, 1))
    tree:add_le(f.cpu, buffer(2, 2))
    tree:add_le(f.thread, buffer(4, 4))
    tree:add_le(f.opcode, buffer(8, 4))
    pinfo.cols.protocol = "FUSE"
    local what = (names[number] or ("opcode " .. number)) .. " " .. (kinds[kind] or kind)
    if kind == 5 then
        tree:add_le(f.lost, buffer(12, 4))
        pinfo.cols.info = len .. " records are missing here"
        return buffer:len()
    end
    if kind == 6 then
        pinfo.cols.info = "rules in force, " .. len .. " bytes"
        return buffer:len()
    end
    tree:add_le(f.len, buffer(12, 4))
    local kept = buffer:len() - 16
    if len > kept then
        tree:add(f.left_out, len - kept):set_generated()
    end
    if kept > 0 then
        local message = buffer(16):tvb()
        if kind == 2 then
            what = what .. request(tree, message, number, opcodes[number], swapped, pinfo)
        else
            what = what .. answer(tree, message, swapped, pinfo)
        end
    end
    pinfo.cols.info = what
    return buffer:len()
end

-- LINKTYPE_USER0.
DissectorTable.get("wtap_encap"):add(wtap.USER0, etcfs)
