PRAGMA journal_mode = off;
PRAGMA synchronous = off;
PRAGMA cache_size = -32768;
CREATE TABLE t(id INTEGER PRIMARY KEY, k INTEGER, v TEXT, b BLOB);
BEGIN;
WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < @ROWS@)
INSERT INTO t
SELECT x, (x * 7919) % 100003, printf('%0120d', x * x), zeroblob(100 + x % 40) FROM n;
COMMIT;
CREATE INDEX t_k ON t(k);
CREATE INDEX t_v ON t(substr(v, 100));
SELECT count(*), sum(k), min(v), max(v), sum(length(b)) FROM t;
SELECT k % 10, count(*), sum(id) FROM t GROUP BY k % 10 ORDER BY 1;
SELECT id, k FROM t WHERE k BETWEEN 500 AND 505 ORDER BY k, id LIMIT 20;
SELECT count(*) FROM t a JOIN t b ON a.k = b.k AND a.id < b.id WHERE a.k < 300;
SELECT v FROM t ORDER BY substr(v, 110), id LIMIT 5;
UPDATE t SET v = v || 'x' WHERE k % 50 = 0;
DELETE FROM t WHERE k % 97 = 1;
SELECT count(*), total(length(v)) FROM t;
SELECT CASE WHEN page_count * page_size >= @BYTES@ THEN 'large enough' ELSE 'too small' END
FROM pragma_page_count, pragma_page_size;
PRAGMA integrity_check;
