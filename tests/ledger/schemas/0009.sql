BEGIN TRANSACTION;
CREATE TABLE accounts (
	integration TEXT NOT NULL, 
	account TEXT NOT NULL, 
	first_seen BIGINT NOT NULL, 
	PRIMARY KEY (integration, account)
);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0009');
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
	service TEXT DEFAULT '' NOT NULL, 
	epoch BIGINT DEFAULT '0' NOT NULL, 
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
	data JSON, 
	code TEXT, 
	salt BLOB, 
	content TEXT DEFAULT '' NOT NULL, 
	digest TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "events" VALUES(1,1796115600123456,'ada','tool','tool','executed','abc','Ida <ida@example.com>','attempt 1',NULL,NULL,NULL,NULL,NULL,X'23205B862FACFC98A7F79628842B9D56','0e466b1a788de7b3b8143bd3442ef49f5c33a8111381fdb6c9241dc2d898aaeb','44dda33516a99aedc27ee94cb173dc44d94f18a4a888a84fd6e630e3dd2c0e83');
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
	off BOOLEAN DEFAULT 0 NOT NULL, 
	answered TEXT DEFAULT '' NOT NULL, 
	cause TEXT, 
	code TEXT, 
	locked TEXT, 
	acted_at BIGINT, 
	ends_at BIGINT, 
	ends_with_hire BOOLEAN DEFAULT 0 NOT NULL, 
	ends_moved BOOLEAN DEFAULT 0 NOT NULL, 
	over TEXT, 
	expire_at BIGINT, 
	seen_at BIGINT, 
	form JSON, 
	PRIMARY KEY (hire, access)
);
INSERT INTO "grants" VALUES('ada','tool','ada@example.com','tool','suite','hires/ada.yaml:9',NULL,'confirmed','present','none','',0,0,NULL,NULL,NULL,NULL,'{}','{}','[]',1796115600123456,1796115600123456,NULL,NULL,0,0,0,0,0,NULL,NULL,'execute',NULL,NULL,'{}','{}','{}',0,0,'',NULL,NULL,NULL,NULL,NULL,0,0,NULL,NULL,NULL,NULL);
CREATE TABLE hosts (
	host TEXT NOT NULL, 
	next_at BIGINT, 
	held_until BIGINT, 
	PRIMARY KEY (host)
);
CREATE TABLE locks (
	hire TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	"by" TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	until BIGINT, 
	deletes BOOLEAN NOT NULL, 
	hires JSON NOT NULL, 
	addresses JSON NOT NULL, 
	mac TEXT, 
	PRIMARY KEY (hire)
);
CREATE TABLE members (
	name TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	since BIGINT NOT NULL, 
	seen BIGINT NOT NULL, 
	daemon BOOLEAN NOT NULL, 
	PRIMARY KEY (name), 
	UNIQUE (owner)
);
CREATE TABLE meta (
	name TEXT NOT NULL, 
	value BLOB NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "meta" VALUES('history_end',X'312034346464613333353136613939616564633237656539346362313733646334346439346631386134613838386138346664366536333065336464326330653833');
CREATE TABLE pulls (
	revision TEXT NOT NULL, 
	committed_at BIGINT NOT NULL, 
	merges JSON NOT NULL, 
	asked_at BIGINT, 
	settled BOOLEAN DEFAULT 0 NOT NULL, 
	approvals JSON, 
	merged_by TEXT, 
	PRIMARY KEY (revision)
);
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
CREATE TABLE shards (
	service TEXT NOT NULL, 
	epoch BIGINT NOT NULL, 
	owner TEXT, 
	until BIGINT, 
	PRIMARY KEY (service)
);
CREATE TABLE shares (
	name TEXT NOT NULL, 
	member TEXT NOT NULL, 
	has INTEGER NOT NULL, 
	wants INTEGER NOT NULL, 
	PRIMARY KEY (name, member)
);
CREATE TABLE words (
	id INTEGER NOT NULL, 
	at BIGINT NOT NULL, 
	kind TEXT NOT NULL, 
	hire TEXT, 
	access TEXT, 
	integration TEXT, 
	"by" TEXT NOT NULL, 
	mac TEXT, 
	data JSON, 
	once TEXT, 
	PRIMARY KEY (id)
);
CREATE INDEX grants_integration ON grants (integration, phase);
CREATE INDEX grants_due ON grants (retry_at);
CREATE INDEX grants_address ON grants (lower(email));
CREATE INDEX grants_guarded ON grants (integration) WHERE guarded IS 1;
CREATE INDEX grants_expire ON grants (expire_at);
CREATE INDEX attempts_grant ON attempts (hire, access);
CREATE INDEX attempts_open ON attempts (ended_at);
CREATE INDEX events_grant ON events (hire, access);
CREATE INDEX events_at ON events (at);
CREATE INDEX given_commit ON given (granted_in);
CREATE INDEX pulls_open ON pulls (settled, committed_at);
CREATE INDEX requests_run ON requests (run);
CREATE UNIQUE INDEX requests_attempt ON requests (attempt, place);
COMMIT;
