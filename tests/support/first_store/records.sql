BEGIN TRANSACTION;
CREATE TABLE agents (
	organization_id VARCHAR(128) NOT NULL, 
	id VARCHAR(128) NOT NULL, 
	name TEXT NOT NULL, 
	engine TEXT NOT NULL, 
	instructions TEXT, 
	model TEXT, 
	tools JSON, 
	defaults JSON NOT NULL, 
	created_at BIGINT NOT NULL, 
	updated_at BIGINT NOT NULL, 
	CONSTRAINT pk_agents PRIMARY KEY (organization_id, id), 
	CONSTRAINT fk_agents_organization_id FOREIGN KEY(organization_id) REFERENCES organizations (id)
);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE api_keys (
	id VARCHAR(128) NOT NULL, 
	organization_id VARCHAR(128) NOT NULL, 
	name TEXT NOT NULL, 
	hash VARCHAR(64) NOT NULL, 
	scopes JSON NOT NULL, 
	created_at BIGINT NOT NULL, 
	expires_at BIGINT, 
	revoked_at BIGINT, 
	is_bootstrap BOOLEAN NOT NULL, 
	is_admin BOOLEAN NOT NULL, 
	CONSTRAINT pk_api_keys PRIMARY KEY (id), 
	CONSTRAINT uq_api_keys_hash UNIQUE (hash), 
	CONSTRAINT fk_api_keys_organization_id FOREIGN KEY(organization_id) REFERENCES organizations (id)
);
INSERT INTO "api_keys" VALUES('key_9bn9no7rrmq4fme3pu3c','org_g9283dknkhemglvusov6','bootstrap','aba8356637385e80e6a77229aefdd60ce080cf7506ca01efec93222ce6611af1','["*"]',1796063375163957,NULL,NULL,1,0);
CREATE TABLE idempotency (
	organization_id VARCHAR(128) NOT NULL, 
	subject TEXT NOT NULL, 
	route VARCHAR(128) NOT NULL, 
	"key" VARCHAR(255) NOT NULL, 
	fingerprint VARCHAR(64) NOT NULL, 
	status INTEGER, 
	body BLOB, 
	created_at BIGINT NOT NULL, 
	CONSTRAINT pk_idempotency PRIMARY KEY (organization_id, subject, route, "key"), 
	CONSTRAINT fk_idempotency_organization_id FOREIGN KEY(organization_id) REFERENCES organizations (id)
);
CREATE TABLE organizations (
	id VARCHAR(128) NOT NULL, 
	name TEXT NOT NULL, 
	created_at BIGINT NOT NULL, 
	CONSTRAINT pk_organizations PRIMARY KEY (id)
);
INSERT INTO "organizations" VALUES('org_g9283dknkhemglvusov6','default',1796063375146319);
CREATE TABLE secrets (
	name VARCHAR(128) NOT NULL, 
	value BLOB NOT NULL, 
	created_at BIGINT NOT NULL, 
	CONSTRAINT pk_secrets PRIMARY KEY (name)
);
INSERT INTO "secrets" VALUES('token-signing',X'4D6FBCE0FCF09A69B1F5A9F4698295F12FE476033FFB1C3B062D29A524F4B814',1796063375382142);
CREATE TABLE sessions (
	id VARCHAR(128) NOT NULL, 
	organization_id VARCHAR(128) NOT NULL, 
	subject TEXT, 
	agent_id VARCHAR(128) NOT NULL, 
	status VARCHAR(32) NOT NULL, 
	turns INTEGER NOT NULL, 
	created_at BIGINT NOT NULL, 
	updated_at BIGINT NOT NULL, 
	metadata JSON NOT NULL, 
	CONSTRAINT pk_sessions PRIMARY KEY (id), 
	CONSTRAINT fk_sessions_organization_id FOREIGN KEY(organization_id) REFERENCES organizations (id)
);
INSERT INTO "sessions" VALUES('sess_4mi7l9dlmg30qeetrgkl','org_g9283dknkhemglvusov6',NULL,'guide','completed',1,1796063382979907,1796063383008125,'{}');
CREATE INDEX ix_api_keys_organization_id_created_at_id ON api_keys (organization_id, created_at, id);
CREATE INDEX ix_sessions_organization_id_created_at_id ON sessions (organization_id, created_at, id);
CREATE INDEX ix_sessions_organization_id_subject_created_at_id ON sessions (organization_id, subject, created_at, id);
CREATE INDEX ix_sessions_updated_at ON sessions (updated_at);
CREATE INDEX ix_idempotency_created_at ON idempotency (created_at);
COMMIT;
PRAGMA user_version=0;
