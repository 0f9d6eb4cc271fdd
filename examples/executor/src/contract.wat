;; A token: four holders, a supply, and as many transfers as the calldata says (a u32; 32 if there is none). Like recorded
;; contracts it reads far more often than it has to. Returns the four balances.
(module
  (import "host" "get_calldata" (func $get_calldata (param $at i32) (param $room i32) (result i32)))
  (import "host" "storage_read"
    (func $storage_read (param $slot i32) (param $index i32) (param $at i32) (param $length i32)))
  (import "host" "storage_write"
    (func $storage_write (param $slot i32) (param $index i32) (param $at i32) (param $length i32)))

  (memory (export "memory") 1)
  ;; 0: the id of a slot, whose first byte is the holder, or 4 for the supply. 32: a value. 64: the result.
  (data (i32.const 0) "\00 balances of a miniature token")

  (func $load (param $holder i32) (result i64)
    (i32.store8 (i32.const 0) (local.get $holder))
    (call $storage_read (i32.const 0) (i32.const 0) (i32.const 32) (i32.const 32))
    (i64.load (i32.const 32)))

  (func $store (param $holder i32) (param $amount i64)
    (i32.store8 (i32.const 0) (local.get $holder))
    (i64.store (i32.const 32) (local.get $amount))
    (call $storage_write (i32.const 0) (i32.const 0) (i32.const 32) (i32.const 8)))

  ;; The first execution finds no supply and makes one.
  (func $mint (local $holder i32)
    (if (i64.eqz (call $load (i32.const 4)))
      (then
        (loop $next
          (call $store (local.get $holder) (i64.const 1000000))
          (local.set $holder (i32.add (local.get $holder) (i32.const 1)))
          (br_if $next (i32.lt_u (local.get $holder) (i32.const 4))))
        (call $store (i32.const 4) (i64.const 4000000)))))

  (func $transfer (param $from i32) (param $to i32) (param $amount i64) (local $has i64)
    (local.set $has (call $load (local.get $from)))
    (if (i64.lt_u (local.get $has) (local.get $amount)) (then (unreachable)))
    (call $store (local.get $from) (i64.sub (local.get $has) (local.get $amount)))
    (call $store (local.get $to) (i64.add (call $load (local.get $to)) (local.get $amount))))

  (func (export "main") (result i32 i32) (local $left i32) (local $holder i32) (local $sum i64)
    (local.set $left (i32.const 32))
    (if (i32.eq (call $get_calldata (i32.const 32) (i32.const 4)) (i32.const 4))
      (then (local.set $left (i32.load (i32.const 32)))))
    (call $mint)
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $left)))
        (call $transfer
          (i32.and (local.get $left) (i32.const 3))
          (i32.and (i32.add (i32.mul (local.get $left) (i32.const 3)) (i32.const 1)) (i32.const 3))
          (i64.extend_i32_u (local.get $left)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $next)))
    (loop $next
      (i64.store
        (i32.add (i32.const 64) (i32.shl (local.get $holder) (i32.const 3)))
        (call $load (local.get $holder)))
      (local.set $sum (i64.add (local.get $sum) (i64.load (i32.const 32))))
      (local.set $holder (i32.add (local.get $holder) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $holder) (i32.const 4))))
    ;; Nothing was lost or made on the way.
    (if (i64.ne (local.get $sum) (call $load (i32.const 4))) (then (unreachable)))
    (i32.const 64)
    (i32.const 32)))
