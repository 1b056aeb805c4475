BEGIN TRANSACTION;
CREATE TABLE accounts (
	integration TEXT NOT NULL, 
	account TEXT NOT NULL, 
	first_seen BIGINT NOT NULL, 
	PRIMARY KEY (integration, account)
);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0007');
CREATE TABLE attempts (
	id INTEGER NOT NULL, 
	hire TEXT NOT NULL, 
	access TEXT NOT NULL, 
	integration TEXT NOT NULL, 
	run BIGINT NOT NULL, 
	kind TEXT NOT NULL, 
	number INTEGER NOT NULL, 
	total INTEGER NOT NULL, 
	started_at BIGINT NOT NULL, 
	alive_at BIGINT NOT NULL, 
	ended_at BIGINT, 
	error TEXT, 
	revision TEXT, 
	PRIMARY KEY (id)
);
CREATE TABLE events (
	id INTEGER NOT NULL, 
	at BIGINT NOT NULL, 
	hire TEXT NOT NULL, 
	access TEXT NOT NULL, 
	integration TEXT NOT NULL, 
	event TEXT NOT NULL, 
	revision TEXT, 
	author TEXT, 
	detail TEXT NOT NULL, 
	was TEXT, 
	granted_in TEXT, 
	approved_by JSON, 
	salt BLOB, 
	content TEXT DEFAULT '' NOT NULL, 
	digest TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "events" VALUES(1,1796115600123456,'ada','tool','tool','executed','abc','Ida <ida@example.com>','attempt 1',NULL,NULL,NULL,X'3080E14F4698244655EBFE2F69A30F65','2b6ea1dade196ba71324c1f37fc86786dc9e61ff6acfaf85a28f517fc63be8df','f9e40cc1491dde3970ebe37e20237b4b98efa796b88b4a881a5a72ab724dc693');
CREATE TABLE given (
	hire TEXT NOT NULL, 
	access TEXT NOT NULL, 
	granted_in TEXT NOT NULL, 
	author TEXT NOT NULL, 
	committer TEXT NOT NULL, 
	committed_at BIGINT NOT NULL, 
	approved_by JSON NOT NULL, 
	PRIMARY KEY (hire, access)
);
CREATE TABLE grants (
	hire TEXT NOT NULL, 
	access TEXT NOT NULL, 
	email TEXT NOT NULL, 
	integration TEXT NOT NULL, 
	service TEXT NOT NULL, 
	source TEXT NOT NULL, 
	origin TEXT, 
	phase TEXT NOT NULL, 
	status TEXT NOT NULL, 
	action TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	changed BOOLEAN NOT NULL, 
	attempts INTEGER NOT NULL, 
	retry_at BIGINT, 
	checked_at BIGINT, 
	last_error TEXT, 
	digest TEXT, 
	snapshot JSON NOT NULL, 
	attempted JSON NOT NULL, 
	needs JSON NOT NULL, 
	executed_at BIGINT, 
	confirmed_at BIGINT, 
	healed_at BIGINT, 
	orphaned_at BIGINT, 
	lost BOOLEAN NOT NULL, 
	fresh BOOLEAN NOT NULL, 
	by_hand BOOLEAN NOT NULL, 
	guarded BOOLEAN NOT NULL, 
	keep BOOLEAN DEFAULT 0 NOT NULL, 
	run BIGINT, 
	revision TEXT, 
	kind TEXT DEFAULT 'execute' NOT NULL, 
	as_wanted_at BIGINT, 
	updated_at BIGINT, 
	wants JSON DEFAULT '{}' NOT NULL, 
	differs JSON DEFAULT '{}' NOT NULL, 
	accepted JSON DEFAULT '{}' NOT NULL, 
	invitations INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (hire, access)
);
INSERT INTO "grants" VALUES('ada','tool','ada@example.com','tool','suite','hires/ada.yaml:9',NULL,'confirmed','present','none','',0,0,NULL,NULL,NULL,NULL,'{}','{}','[]',1796115600123456,1796115600123456,NULL,NULL,0,0,0,0,0,NULL,NULL,'execute',NULL,NULL,'{}','{}','{}',0);
CREATE TABLE meta (
	name TEXT NOT NULL, 
	value BLOB NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "meta" VALUES('history_end',X'312066396534306363313439316464653339373065626533376532303233376234623938656661373936623838623461383831613561373261623732346463363933');
CREATE TABLE requests (
	id INTEGER NOT NULL, 
	attempt BIGINT NOT NULL, 
	run BIGINT NOT NULL, 
	place INTEGER NOT NULL, 
	text TEXT NOT NULL, 
	method TEXT NOT NULL, 
	url TEXT NOT NULL, 
	mutates BOOLEAN NOT NULL, 
	sent_at BIGINT NOT NULL, 
	answered_at BIGINT, 
	status_code INTEGER, 
	outcome TEXT NOT NULL, 
	error TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(attempt) REFERENCES attempts (id) ON DELETE CASCADE
);
CREATE TABLE sealed (
	name TEXT NOT NULL, 
	value BLOB NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE words (
	id INTEGER NOT NULL, 
	at BIGINT NOT NULL, 
	kind TEXT NOT NULL, 
	hire TEXT, 
	access TEXT, 
	integration TEXT, 
	"by" TEXT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX grants_guarded ON grants (integration) WHERE guarded IS 1;
CREATE INDEX grants_address ON grants (lower(email));
CREATE INDEX grants_due ON grants (retry_at);
CREATE INDEX grants_integration ON grants (integration, phase);
CREATE INDEX attempts_open ON attempts (ended_at);
CREATE INDEX attempts_grant ON attempts (hire, access);
CREATE INDEX events_at ON events (at);
CREATE INDEX events_grant ON events (hire, access);
CREATE UNIQUE INDEX requests_attempt ON requests (attempt, place);
CREATE INDEX requests_run ON requests (run);
COMMIT;
